"""The webhook secret of a subscriber that was given none, shared through its database."""

from broker_client import statements
from broker_client.database import Database
from broker_client.signatures import new_secret

TABLE = "subscriber_secret"


def ensure_secret(database: Database, subscriber: str) -> str:
    """Return the subscriber's stored secret; make and store one the first time.

    Every process on this database gets the same one, whoever comes first.
    """
    sql = statements.load("secret", TABLE)
    with database.writing() as transaction:
        transaction.execute_script(sql[f"create_{transaction.dialect}"])
        transaction.execute(sql["offer"], subscriber=subscriber, secret=new_secret())
        [(secret,)] = transaction.fetch(sql["get"], subscriber=subscriber)
    return str(secret)
