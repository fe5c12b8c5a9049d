"""Other kinds of rows than questions with answers: documents, multiple choice."""
