def rows_at_once(f, run):
    return None
