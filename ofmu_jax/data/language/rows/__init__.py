"""Rows as people have them: JSON, tables, chats, data sets; one way to read them."""
