"""The timeline and the plan, drawn and in words."""
