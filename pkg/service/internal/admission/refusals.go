package admission

// refusals are the requests that are refused before they are read. A goroutine of its own
// answers them, because sending a refusal takes longer than deciding on it. Whoever floods an
// endpoint must not keep the others there waiting by the answers that it gets. At most
// maxRefusals wait; beyond that a flood gets no answers.
type refusals struct{ waiting chan refusal }

type refusal struct {
	request Request
	err     error
}

const maxRefusals = 1 << 13

func newRefusals() *refusals { return &refusals{waiting: make(chan refusal, maxRefusals)} }
