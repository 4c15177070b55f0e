def outside_scope(f): return f
