"""From a configuration to evaluated models and their report."""
