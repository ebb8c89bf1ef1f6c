"""Pages: annotator (invite, consent, label, thanks) and researcher (campaigns)."""
