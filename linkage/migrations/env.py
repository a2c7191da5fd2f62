"""What alembic runs: the steps, on the connection that ``migrate`` opened, inside its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
