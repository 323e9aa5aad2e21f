"""Records shown to people: in a terminal, and as a page with what training learns of them."""
