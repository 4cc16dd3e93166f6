"""What a command of the agent may do, by its program, its flags and the paths it names."""
