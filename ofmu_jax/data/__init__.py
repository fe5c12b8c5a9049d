"""Question-answer rows, prompts, and minibatches of token ids."""
