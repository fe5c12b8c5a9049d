"""From words to an exit status: options, signals, the console, what code ran."""
