"""Records and published numbers as a site, and what strangers may send to it."""
