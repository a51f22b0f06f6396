"""APIs that other clients speak, translated onto the one core: a request becomes what a chat
completion asks the engine, its events become the client's own, and so do its errors."""
