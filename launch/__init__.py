"""One experiment many times: its trials, and the machines that run them."""
