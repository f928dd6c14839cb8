// Package table keeps a great many small things in memory that has no pointers.
//
// The garbage collector passes over such memory: it costs nothing however much there is.
// So things refer to each other by 32-bit numbers. 0 means none.
//
//	var users table.Blocks[user]                     // records that never move
//	texts := table.NewArena(func(owner uint32, to table.Text) { users.At(owner).id = to })
//	byID := table.NewIndex(hash, func(n uint32) string { return texts.Get(users.At(n).id) })
//
//	n, u := users.New()
//	u.id = texts.Put(n, "alice")
//	byID.Add(n)
//
//	n = byID.Find("alice")                           // 0: there is none
//	byID.Remove(n)
//	texts.Free(users.At(n).id)
//	users.Free(n)
//	texts.Tidy()                                     // now texts may move
//
// A number is local to one table of one process. It is given again after it was freed.
// So a number must not be stored or sent, and whoever frees one must know who refers to it.
//
// Memory follows what is in use: a block is given back when its last record is freed, and a
// chunk of text is copied together when half of it is dead.
//
// A table is not safe for concurrent use while it is changed. Concurrent reads are safe.
package table
