"""Language models: rows, tokens, given folders."""
