"""How programs talk to a DTrain server: `Client`, and the transport that workers use too."""
