"""What stands in a room.

shell      walls, floor, ceiling, windows, doors
furnish    which furniture stands where
furniture  beds, seats, tables
storage    cabinets, shelves, a kitchen
fixtures   what hangs on walls, doors, curtains, rugs
decorate   small things set out
clutter    the small things themselves
"""
