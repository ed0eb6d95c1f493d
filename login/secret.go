package login

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"mpr/problem"
)

// newSecret makes a secret that nobody can guess: 43 characters, 256 random bits.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// fingerprint is how secrets of our own making are stored. They have 256 random bits, so
// a plain SHA-256 is enough; passwords get argon2id.
func fingerprint(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// sameFingerprint compares in constant time.
func sameFingerprint(secret, stored string) bool {
	return stored != "" && subtle.ConstantTimeCompare([]byte(fingerprint(secret)), []byte(stored)) == 1
}

// Parameters of argon2id: the second recommendation of the OWASP password storage sheet.
const (
	argonTime    = 2
	argonMemory  = 19 << 10 // KiB
	argonThreads = 1
	argonKey     = 32
)

// hashPassword makes what is stored of a password.
func (s *Service) hashPassword(ctx context.Context, password string) (string, error) {
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails
	key, err := s.argon(ctx, password, salt[:])
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("argon2id$%d$%d$%d$%s$%s", argonTime, argonMemory, argonThreads,
		base64.RawStdEncoding.EncodeToString(salt[:]), base64.RawStdEncoding.EncodeToString(key)), nil
}

// argon waits for a slot, so that many sign-ins at once can't take all memory. Where too
// many wait already it refuses at once.
func (s *Service) argon(ctx context.Context, password string, salt []byte) ([]byte, error) {
	select {
	case s.queue <- struct{}{}:
		defer func() { <-s.queue }()
	default:
		return nil, problem.New(problem.TemporarilyUnavailable, "Too many people sign in at this moment. Try again.").After(time.Second)
	}
	select {
	case s.hashing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.hashing }()
	return argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKey), nil
}

// checkPassword compares a password with what is stored. Where nothing is stored (no such
// user, or one who was invited only) it takes as long, so that nobody can find out who
// has an account.
func (s *Service) checkPassword(ctx context.Context, password, stored string) (bool, error) {
	salt, want := make([]byte, 16), []byte(nil)
	if parts := strings.Split(stored, "$"); len(parts) == 6 {
		var err, err2 error
		salt, err = base64.RawStdEncoding.DecodeString(parts[4])
		want, err2 = base64.RawStdEncoding.DecodeString(parts[5])
		if err := errors.Join(err, err2); err != nil {
			return false, fmt.Errorf("a stored password hash is damaged: %w", err)
		}
	}
	got, err := s.argon(ctx, password, salt)
	if err != nil {
		return false, err
	}
	return len(want) > 0 && subtle.ConstantTimeCompare(got, want) == 1, nil
}

// seal encrypts an answer with a key that only whoever holds the secret can make: the
// store keeps the secret's fingerprint, so it can't read the answer by itself.
func seal(secret string, answer []byte) (string, error) {
	aead, err := sealer(secret)
	if err != nil {
		return "", err
	}
	// The key is used for this one message, so the nonce may be fixed.
	return base64.RawStdEncoding.EncodeToString(aead.Seal(nil, make([]byte, aead.NonceSize()), answer, nil)), nil
}

// unseal is the reverse of seal.
func unseal(secret, sealed string) ([]byte, error) {
	aead, err := sealer(secret)
	if err != nil {
		return nil, err
	}
	data, err := base64.RawStdEncoding.DecodeString(sealed)
	if err != nil {
		return nil, fmt.Errorf("unseal an answer: %w", err)
	}
	return aead.Open(nil, make([]byte, aead.NonceSize()), data, nil)
}

func sealer(secret string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "refresh token answer", 32)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return cipher.NewGCM(block)
}
