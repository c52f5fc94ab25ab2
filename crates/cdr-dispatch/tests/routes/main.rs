//! Which push goes where: routes through their public interface.

mod push;
mod route;
