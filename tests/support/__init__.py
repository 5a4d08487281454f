"""What tests share: real processes, a real PostgreSQL, and the parts that a machine may lack."""
