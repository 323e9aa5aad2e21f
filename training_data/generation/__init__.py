"""Records written by a labeler: instruction data as LLaVA's, and tool use with real skills."""
