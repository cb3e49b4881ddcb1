"""What people start: the `blink` command, the shell, the original script."""
