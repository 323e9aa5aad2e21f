"""What an operator sees of the gateway: metrics, traces and logs, none with a word of users."""
