//! The page from outside: the program runs, and is spoken to by HTTP as browsers, scrapers and attackers do. What the
//! station did meanwhile stands in its JSON lines.

mod door;
mod http;
mod limits;
mod live;
mod running;
mod verb;
