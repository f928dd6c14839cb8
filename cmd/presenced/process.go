package main

import (
	"bytes"
	"io"
	"strings"

	"github.com/VictoriaMetrics/metrics"
)

// processTable has the figures of the process and of the Go runtime that presenced shows. The
// library has them, but without a help text, and some with a name or a type that Prometheus' tools
// complain about: those are left out.
var processTable = []struct{ name, kind, help string }{
	{"process_cpu_seconds_total", counter, "processor time that the process has used"},
	{"process_resident_memory_bytes", gauge, "resident memory of the process"},
	{"process_resident_memory_peak_bytes", gauge, "the most resident memory that the process has had"},
	{"process_resident_memory_anon_bytes", gauge, "resident memory that is no file's"},
	{"process_resident_memory_file_bytes", gauge, "resident memory that is of the program and other files"},
	{"process_virtual_memory_bytes", gauge, "virtual memory of the process"},
	{"process_start_time_seconds", gauge, "when the process started, in seconds since 1970"},
	{"process_major_pagefaults_total", counter, "page faults that needed the disk"},
	{"go_info", gauge, "the version of Go"},
	{"go_goroutines", gauge, "goroutines"},
	{"go_threads", gauge, "threads of the operating system"},
	{"go_gomaxprocs", gauge, "how many threads run Go code at once at most"},
	{"go_gc_duration_seconds", "summary", "pauses of garbage collections"},
	{"go_gc_cpu_seconds_total", counter, "processor time of garbage collections"},
	{"go_mutex_wait_seconds_total", counter, "time that goroutines have waited for locks"},
	{"go_memlimit_bytes", gauge, "the memory limit of the Go runtime"},
	{"go_memstats_alloc_bytes_total", counter, "bytes allocated on the heap, freed ones included"},
	{"go_memstats_mallocs_total", counter, "objects allocated on the heap, freed ones included"},
	{"go_memstats_heap_alloc_bytes", gauge, "heap: objects, also those that the next collection frees"},
	{"go_memstats_heap_inuse_bytes", gauge, "heap: pages that have objects"},
	{"go_memstats_heap_idle_bytes", gauge, "heap: pages without objects"},
	{"go_memstats_heap_released_bytes", gauge, "heap: pages given back to the operating system"},
	{"go_memstats_heap_sys_bytes", gauge, "heap: address space"},
	{"go_memstats_heap_objects", gauge, "heap: number of objects"},
	{"go_memstats_next_gc_bytes", gauge, "heap: size at which the next collection begins"},
	{"go_memstats_last_gc_time_seconds", gauge, "when the last collection ended, in seconds since 1970"},
	{"go_memstats_stack_sys_bytes", gauge, "memory of stacks"},
	{"go_memstats_mspan_sys_bytes", gauge, "memory of the runtime: spans of the heap"},
	{"go_memstats_mcache_sys_bytes", gauge, "memory of the runtime: caches of the heap"},
	{"go_memstats_buck_hash_sys_bytes", gauge, "memory of the runtime: profiles"},
	{"go_memstats_gc_sys_bytes", gauge, "memory of the runtime: garbage collection"},
	{"go_memstats_other_sys_bytes", gauge, "memory of the runtime: the rest"},
	{"go_memstats_sys_bytes", gauge, "all memory got from the operating system"},
}

// writeProcess writes the figures of processTable that this system has.
func writeProcess(w io.Writer) {
	var all bytes.Buffer
	metrics.WriteProcessMetrics(&all)
	lines := make(map[string]string) // by the metric's name
	for line := range strings.Lines(all.String()) {
		name := line[:max(strings.IndexAny(line, "{ "), 0)]
		name = strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")
		lines[name] += line
	}
	for _, m := range processTable {
		if text := lines[m.name]; text != "" {
			writeHead(w, m.name, m.kind, m.help)
			_, _ = io.WriteString(w, text) // like all writes here: who asked may be gone
		}
	}
}
