"""Images as bytes and arrays: no Django here."""
