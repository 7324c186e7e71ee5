// Package promises holds the black-box tests of package dssauth: what it
// promises to an application that wraps its handlers, shown through its exported names
// alone. [docs/reliability.md] says which test shows what.
//
// [docs/reliability.md]: https://github.com/dssauth/dssauth/blob/main/docs/reliability.md
package promises
