// Package docs holds the project's documents to what the project does. It has tests only.
//
// Every fenced block of README.md and docs/*.md is run or checked, by its language:
//
//	sh             is run, and must succeed. A document's blocks share one empty directory
//	               with bin/, where the commands are, and run in their order.
//	sh background  is one command that is started, and runs until the document's end
//	sh by hand     is not run, because it needs more than one machine or an account of yours.
//	               Its commands and flags must exist.
//	output         must agree with what the block before it printed. With more words, as in
//	               "output watch", it is that of the last background command with these words.
//	go             is compiled and run. A fragment gets imports, main, and checks of err.
//	js browser     is run by the tests of pkg/client-js (test/docs), in Chromium
//	js token       is that, with a backend of its own
//	json           must be JSON
//	conf           must be a configuration that nats-server can parse
//	text, ini      are shown: pictures, and files of other programs
//
// Any other block fails the test. The ports 4222, 8222 and 9222 of 127.0.0.1 are replaced by
// free ones, and /etc and /var by directories of the test. "nats", "curl" and "make" are small
// stand-ins (see tools_test.go), so that the documents need Go only.
//
// Links, paths, tests, make targets and metrics that the documents name must exist.
package docs
