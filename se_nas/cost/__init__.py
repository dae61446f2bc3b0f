"""Floor 3: what a network costs: counted in closed form, predicted from measured tables, measured on the network."""
