"""Pages for a browser, each one file: attention of a sentence, reports of runs."""
