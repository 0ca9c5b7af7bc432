"""Everything that the frameworks ship, as their documentation shows it, for the sweep of the rules over it."""
