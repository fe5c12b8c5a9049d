"""A whole unlearning run as one call, on language models, classifiers, or your own."""
