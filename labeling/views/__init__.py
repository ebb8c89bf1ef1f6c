"""Pages: annotator (invite, consent, label, thanks) and researcher (campaigns, their trials, people and results)."""
