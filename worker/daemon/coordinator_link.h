// A daemon's link to its coordinator: the session and, on a connection of its own, the stream of records. It connects,
// introduces the daemon, answers the checkpoint probe, and does all of it again after every loss, for ever, with a
// jittered backoff. All methods and handlers run on the event loop's thread.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>

#include "qwen3/internal/v1/session.grpc.pb.h"
#include "worker/daemon/client_stream.h"
#include "worker/daemon/event_loop.h"
#include "worker/daemon/spool.h"

namespace qwen3::worker {

// Delays between tries: doubling from 0.1 s to 2 s, each cut by up to a half at random so that daemons spread out.
class Backoff {
 public:
  explicit Backoff(uint32_t seed) : random_(seed) {}
  EventLoop::Clock::duration next();
  void reset() { tries_ = 0; }

 private:
  std::minstd_rand random_;
  int tries_ = 0;
};

class CoordinatorLink {
 public:
  struct Handlers {
    // The daemon as it is now; the probe is filled in here.
    std::function<internal::v1::Hello()> hello;
    // This worker is admitted: end what is stale, say again all that is not acknowledged.
    std::function<void(const internal::v1::Welcome&)> on_admitted;
    // Everything but Welcome.
    std::function<void(const internal::v1::CoordinatorMessage&)> on_message;
    // A batch of records is acknowledged.
    std::function<void()> on_records_taken;
  };

  CoordinatorLink(std::string address, std::string worker, std::shared_ptr<EventLoop> loop, Spool& spool,
                  Handlers handlers);

  void open();
  // No session follows. `closed` runs when nothing of the streams is left.
  void close(std::function<void()> closed);
  // Ends a session from which nothing was heard for a lease, or at first for kFirstPatience. Call it every second or
  // so.
  void check_silence();
  // Whether a session stands, so that a message now has a way.
  bool ready() const { return ready_; }
  // False, and not sent: there is no session.
  bool send(internal::v1::WorkerMessage message);
  // Records were added to the spool.
  void records_added();

 private:
  using Session = ClientStream<internal::v1::WorkerMessage, internal::v1::CoordinatorMessage>;
  using Records = ClientStream<internal::v1::RecordBatch, internal::v1::RecordAck>;

  static constexpr std::chrono::seconds kFirstPatience{10};

  void on_session_message(const internal::v1::CoordinatorMessage& message);
  void on_welcome(const internal::v1::Welcome& welcome);
  void on_session_closed(const grpc::Status& status);
  void open_records();
  void on_record_ack(const internal::v1::RecordAck& ack);
  void on_records_closed(const grpc::Status& status);
  void push_records();
  void finish_closing();

  std::string address_;
  std::string worker_;
  std::shared_ptr<EventLoop> loop_;
  Spool& spool_;
  Handlers handlers_;
  std::unique_ptr<internal::v1::WorkerSessionService::Stub> session_stub_, records_stub_;
  std::shared_ptr<Session> session_;
  std::shared_ptr<Records> records_;
  Backoff session_backoff_, records_backoff_;
  bool ready_ = false;
  bool probe_answered_ = false;  // in this session
  EventLoop::Clock::duration patience_ = kFirstPatience;
  EventLoop::Clock::time_point heard_{};
  bool silent_ = false;  // the session is being ended for its silence
  bool batch_in_flight_ = false;
  std::string last_error_;        // told once, not with every try
  std::function<void()> closed_;  // set: closing
};

}  // namespace qwen3::worker
