"""What the code says about itself, as tables and schemas: the settings of configs."""
