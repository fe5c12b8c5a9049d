"""Forget10 of TOFU with many methods on an accelerator, within minutes: one command."""
