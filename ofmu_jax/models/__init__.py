"""Flax models: the Llama family, and Hugging Face folders in and out."""
