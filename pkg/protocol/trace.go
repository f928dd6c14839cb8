package protocol

// TraceHeader is the header of a request, a reply and an event that names a trace (PROTOCOL 5.1). It
// is in lower case, as the W3C has it, and NATS tells cases apart.
const TraceHeader = "traceparent"

// traceBytes is the length of a TraceParent, such as
//
//	00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
const traceBytes = 55

// TraceParent returns the trace that the headers of a message name; empty if they name none, several,
// or one that is not as the W3C has it (https://www.w3.org/TR/trace-context/).
func TraceParent(headers map[string][]string) string {
	if values := headers[TraceHeader]; len(values) == 1 && IsTraceParent(values[0]) {
		return values[0]
	}
	return ""
}

// IsTraceParent reports whether a text is a trace's version, ID, parent and flags. The version is not
// ff, and neither the ID nor the parent is all zeros.
func IsTraceParent(s string) bool {
	if len(s) != traceBytes || s[:2] == "ff" {
		return false
	}
	id, parent := byte(0), byte(0)
	for i := range len(s) {
		c := s[i]
		switch {
		case i == 2 || i == 35 || i == 52:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		case i > 2 && i < 35:
			id |= c - '0'
		case i > 35 && i < 52:
			parent |= c - '0'
		}
	}
	return id != 0 && parent != 0
}
