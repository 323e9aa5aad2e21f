"""The chat page: conversations in a browser, with drawing, examples, branches and history."""
