// Package protobuf is an entry as a protobuf message, encoded by vtprotobuf.
package protobuf

//go:generate go run ./generate entry.proto
