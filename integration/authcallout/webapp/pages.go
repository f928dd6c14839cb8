package main

import (
	"encoding/json"
	"net/http"

	"presence/pkg/protocol"
)

const cookie = "webapp-session"

func (a *app) handler(page string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", a.login)
	mux.HandleFunc("GET /me", a.asUser(func(userID string) any { return map[string]string{"userID": userID} }))
	mux.HandleFunc("POST /presence-token", a.asUser(a.connectOptions))
	mux.Handle("GET /", http.FileServer(http.Dir(page)))
	return mux
}

// connectOptions are those of the page's NATS client. The client asks for them before each attempt
// to connect, so the token need not live for long.
func (a *app) connectOptions(userID string) any {
	name, _ := protocol.RoleUser.Name(userID) // login has checked it
	return map[string]string{
		"servers": a.servers, "token": a.tickets.make(userID), "inboxPrefix": protocol.RoleUser.InboxPrefix(name),
	}
}

// login is where an application asks for a password, or lets somebody else vouch.
func (a *app) login(w http.ResponseWriter, r *http.Request) {
	userID := r.FormValue("user")
	if err := protocol.CheckUserID(userID); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: a.sessions.make(userID), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	w.WriteHeader(http.StatusNoContent)
}

// asUser answers those who have logged in.
func (a *app) asUser(answer func(userID string) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := r.Cookie(cookie)
		if err != nil {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		userID, err := a.sessions.check(c.Value)
		if err != nil {
			http.Error(w, "log in again", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(answer(userID)) // who does not read it, does without
	}
}
