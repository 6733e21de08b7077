"""The page in the browser: `colorize-web`."""
