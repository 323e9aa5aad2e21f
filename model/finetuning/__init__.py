"""Any image-text model of transformers, trained on files of records with our own masks."""
