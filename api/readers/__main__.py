"""`python -m api.readers`: one reader, for the API that starts it."""

from api.readers.child import main

if __name__ == "__main__":
    main()
