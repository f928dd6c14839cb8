package layout

import (
	"strings"
	"testing"
)

func TestPad_Cells(t *testing.T) {
	for s, width := range map[string]int{
		"alice": 5, "王小明": 6, "ｈａｌｆ": 8, "ﾊﾝｶｸ": 4, "한국": 4, "äöü": 3, "a\u0308": 1, "👩\u200d💻": 2, "🇨🇭": 2, "❤️": 2, "नमस्ते": 4, "": 0,
	} {
		if got := Width(s); got != width {
			t.Errorf("Width(%q): got %d, want %d", s, got, width)
		}
		if got, want := Pad(s, 10), s+strings.Repeat(" ", 10-width); got != want {
			t.Errorf("Pad(%q, 10): got %q, want %q", s, got, want)
		}
	}
	if got := Pad("王小明", 5); got != "王小明" {
		t.Errorf("Pad of what is wider: got %q", got)
	}
}

func TestWrap(t *testing.T) {
	word, wide := strings.Repeat("x", 30), strings.Repeat("王", 41)
	for _, c := range []struct{ text, want string }{
		{"", "> "},
		{"one two", "> one two"},
		{word + " " + word + " " + word, "> " + word + " " + word + "\n  " + word},
		{"one " + wide + " two", "> one\n  " + wide + "\n  two"},
		{wide, "> " + wide},
		{strings.Repeat("王 ", 26) + "z z", "> " + strings.Repeat("王 ", 25) + "王\n  z z"},
	} {
		if got := Wrap(c.text, "> ", "  "); got != c.want {
			t.Errorf("Wrap(%q): got\n%s\nwant\n%s", c.text, got, c.want)
		}
	}
}

func TestWrapHelpLine(t *testing.T) {
	long := strings.Repeat("word ", 20)
	for _, c := range []struct{ line, want string }{
		{"   --flag VALUE  " + long, "   --flag VALUE  " + strings.TrimRight(strings.Repeat("word ", 12), " ") + "\n" + strings.Repeat(" ", 17) + strings.TrimRight(strings.Repeat("word ", 8), " ")},
		{"   " + long, "   " + strings.TrimRight(strings.Repeat("word ", 15), " ") + "\n   " + strings.TrimRight(strings.Repeat("word ", 5), " ")},
		{"   short", "   short"},
	} {
		if got := wrapHelpLine(c.line); got != c.want {
			t.Errorf("wrapHelpLine(%q): got\n%s\nwant\n%s", c.line, got, c.want)
		}
	}
}
