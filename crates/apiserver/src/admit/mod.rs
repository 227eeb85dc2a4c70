//! What an object must be, or becomes, before it is stored.
