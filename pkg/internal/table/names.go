package table

// Names gives numbers to texts of which many are equal, such as platforms: each is kept once.
// The zero value is ready for use. Number 0 is the empty text.
type Names struct {
	numbers map[string]uint32
	names   []name // the first one is not used
	free    []uint32
	unused  int // names without users that still have a number
}

type name struct {
	text string
	uses int
}

// Take returns the number of a text, and counts one more use of it.
func (ns *Names) Take(text string) uint32 {
	if text == "" {
		return 0
	}
	n := ns.numbers[text]
	if n == 0 {
		n = ns.add(text)
	}
	x := &ns.names[n]
	if x.uses == 0 {
		ns.unused--
	}
	x.uses++
	return n
}

func (ns *Names) add(text string) (n uint32) {
	if ns.numbers == nil {
		ns.numbers, ns.names = make(map[string]uint32), make([]name, 1)
	}
	if last := len(ns.free) - 1; last >= 0 {
		n, ns.free = ns.free[last], ns.free[:last]
	} else {
		n = uint32(len(ns.names))
		ns.names = append(ns.names, name{})
	}
	ns.names[n].text = string([]byte(text)) // text may be a part of something large
	ns.numbers[ns.names[n].text] = n
	ns.unused++
	return n
}

// Release counts one use less. A name without uses keeps its number until Tidy.
func (ns *Names) Release(n uint32) {
	if n == 0 {
		return
	}
	x := &ns.names[n]
	if x.uses == 0 {
		panic("table: the name " + x.text + " is released and not in use")
	}
	if x.uses--; x.uses == 0 {
		ns.unused++
	}
}

// Find returns the number of a text; 0 if it has none.
func (ns *Names) Find(text string) uint32 { return ns.numbers[text] }

// Get returns the text of a number.
func (ns *Names) Get(n uint32) string {
	if n == 0 {
		return ""
	}
	return ns.names[n].text
}

// Len returns how many names have a number.
func (ns *Names) Len() int { return len(ns.numbers) }

// Used returns how many names are in use.
func (ns *Names) Used() int { return len(ns.numbers) - ns.unused }

// fewUnused is how many unused names Tidy leaves alone.
const fewUnused = 16

// Tidy forgets the names without uses if they are more than half of all.
func (ns *Names) Tidy() {
	if ns.unused <= fewUnused || 2*ns.unused <= len(ns.numbers) {
		return
	}
	for n := range ns.names {
		if x := &ns.names[n]; x.uses == 0 && x.text != "" {
			delete(ns.numbers, x.text)
			*x = name{}
			ns.free = append(ns.free, uint32(n))
		}
	}
	ns.unused = 0
}
