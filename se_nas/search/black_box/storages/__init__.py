"""What a study in a database needs beside the database: fewer statements, and an address that shows no password."""
