//! A server of the Model Context Protocol, by which an agent searches and reads past conversations.
//!
//! [`server`] reads requests from stdin and answers them on several threads, [`message`] has the form of requests and
//! answers, and [`index_refresh`] keeps the search index up to date. The tools are described to clients by
//! `tools.json`; [`tools`] reads the arguments of a [`call`], and [`search`] and [`open`] answer. All texts
//! of conversations go through [`answer`], which redacts and quotes them: they were written by web pages and programs
//! too, and must not give instructions to the agent that reads them.

mod answer;
mod call;
mod index_refresh;
mod message;
mod open;
mod search;
mod server;
mod tools;

pub(crate) use server::serve;
pub(crate) use tools::describe_tools;
