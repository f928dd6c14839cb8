package protocol

// White-box: from outside one cannot tell which way a body was read.

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
)

// FuzzJSONScan: what the fast way accepts, the general way does with the same
// result.
func FuzzJSONScan(f *testing.F) {
	for _, s := range []string{
		`{"userIDList":["alice","bob@example.com"]}`, ` { "userIDList" : [ "a" , "b" ] , "detail" : true } `, `{"userIDList":[]}`, `{}`,
		`{"userIDList":["a"],"minRevision":339521537,"epoch":"e","fresh":false}`, `{"userIDList":["a"],"userIDList":["b"]}`,
		`{"userIDList":["a"],"minRevision":01}`, `{"minRevision":1e3}`, `{"minRevision":-1}`, `{"minRevision":999999999999999999}`, `{"minRevision":1,}`,
		`{"userIDList":["a",]}`, `{"userIDList":["\u0061"]}`, `{"userIDLIST":["a"]}`, `{"detail":tru}`, `{"detail":null}`, `{"userIDList":["é"]}`, `{"userIDList":["a"]}}`, `{,}`,
		`{"customStatus":"in a meeting","expiresInSeconds":3600,"sessionID":"s"}`, `{"customStatus":"会议中 🎧"}`, `{"customStatus":null}`, `{"sessionID":"s","idle":true}`, "{\"customStatus\":\"\xff\"}", `{"fresh":true "detail":true}`,
		`{"process":"p1","seq":7,"ops":[{"op":"login","userID":"alice","sessionID":"s1","device":"pixel-8","platform":"web","idle":true},{"op":"set","userID":"bob","customStatus":"","expiresInSeconds":60}]}`,
		`{"ops":[{"op":"set","userID":"a","customStatus":"b","customStatus":"c"}],"process":"p"}`, `{"ops":[{}],"ops":[]}`, `{"ops":[{},]}`, `{"ops":[[]]}`, `{"ops":[{"availability":"busy"}]}`,
		`{"seq":1,"ops":[{"op":"lost"}{"op":"lost"}]}`, `{"seq":1,"ops":[{"op":"lost",}]}`, `{"ops":null}`, `{"ops":[null]}`, `{"ops":[{"userID":null}]}`, `{"ops":[{"op":"idle","idle":1}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		compareScan[GetRequest](t, body)
		compareScan[SetRequest](t, body)
		compareScan[RenewRequest](t, body)
		compareScan[ApplyRequest](t, body)
	})
}

func compareScan[T any, P interface {
	*T
	jsonScanner
}](t *testing.T, body []byte) {
	var fast, general, none T
	if !P(&fast).scanJSON(body) {
		if !reflect.DeepEqual(fast, none) {
			t.Errorf("%q was not read, and left %+v", body, fast)
		}
		return
	}
	if err := unmarshal(body, &general); err != nil || !reflect.DeepEqual(fast, general) {
		t.Errorf("%q: got %+v, want %+v, %v", body, fast, general, err)
	}
}

// TestPlain: what clients usually send is read the fast way.
func TestPlain(t *testing.T) {
	r := GetRequest{MinRevision: 339521537, Epoch: "0b6b0c5a", Fresh: true, Detail: true}
	for i := range MaxUsersPerGet {
		r.UserIDList = append(r.UserIDList, fmt.Sprintf("user-%d@example.com", i))
	}
	compact, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{string(compact), `{"userIDList": ["alice", "bob"], "detail": false, "minRevision": 0}`} {
		var got GetRequest
		if !got.scanJSON([]byte(body)) {
			t.Errorf("%.100s: was not read the fast way", body)
		}
	}
	var set SetRequest
	if body := `{"customStatus":"会议中 🎧","expiresInSeconds":3600}`; !set.scanJSON([]byte(body)) {
		t.Errorf("%s: was not read the fast way", body)
	}
	apply := `{"process":"p1","seq":7,"ops":[{"op":"login","userID":"alice","sessionID":"s1","device":"pixel-8","platform":"web","idle":true},` +
		`{"op":"logout","userID":"bob","sessionID":"s1"}, {"op":"set","userID":"bob","customStatus":"会议中 🎧","expiresInSeconds":60}]}`
	if got := new(ApplyRequest); !got.scanJSON([]byte(apply)) || len(got.Ops) != 3 {
		t.Errorf("%s: was not read the fast way", apply)
	}
	var renew RenewRequest
	if body := `{"sessionID":"0b6b0c5a","idle":true}`; !renew.scanJSON([]byte(body)) {
		t.Errorf("%s: was not read the fast way", body)
	}
}

// BenchmarkApply decodes an apply of 128 sets.
func BenchmarkApply(b *testing.B) {
	r := ApplyRequest{Process: "0b6b0c5a-5b0e-4d5f-9d0a-0123456789ab", Seq: 7}
	for i := range 128 {
		r.Ops = append(r.Ops, Op{Op: OpKindSet, UserID: fmt.Sprintf("user-%07d", i), CustomStatus: Ptr("in a meeting")})
	}
	body, err := json.Marshal(r)
	if err != nil {
		b.Fatal(err)
	}
	for name, decode := range map[string]func([]byte, any) error{"fast": Unmarshal, "general": unmarshal} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var r ApplyRequest
				if err := decode(body, &r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkGet decodes a get of 100 users and encodes its reply.
func BenchmarkGet(b *testing.B) {
	var request GetRequest
	var reply GetReply
	for i := range 100 {
		request.UserIDList = append(request.UserIDList, fmt.Sprintf("user-%07d", i))
		reply.SuccessUserList = append(reply.SuccessUserList, Status{UserID: request.UserIDList[i], StatusType: Online, CustomStatus: "in a meeting", Revision: 339521537, UpdatedAt: 1795507200123})
	}
	body, err := json.Marshal(request)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			var r GetRequest
			if err := Unmarshal(body, &r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode the general way", func(b *testing.B) {
		for b.Loop() {
			var r GetRequest
			if err := unmarshal(body, &r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		var buffer []byte
		for b.Loop() {
			buffer, _ = AppendMarshal(buffer[:0], &reply)
		}
	})
}
