"""From checks to causes: what is wrong at the root, what follows from it, and what to type first."""
