// Intrusive containers: nodes carry their own links, so nothing here allocates.
#pragma once

#include <cstddef>

#include "core/check.h"
#include "core/runnable.h"

namespace evlua {

/// FIFO of nodes linked through `Runnable::next`. `T` is Runnable or derives from it. One thread at a time.
template <class T>
class Queue {
 public:
  Queue() = default;
  Queue(Queue&& other) noexcept : head_(other.head_), tail_(other.tail_) { other.forget(); }
  Queue& operator=(Queue&& other) noexcept {
    EVLUA_DCHECK(empty());
    head_ = other.head_;
    tail_ = other.tail_;
    other.forget();
    return *this;
  }

  bool empty() const noexcept { return head_ == nullptr; }
  T* front() const noexcept { return static_cast<T*>(head_); }

  void push_back(T& node) noexcept {
    node.next = nullptr;
    if (tail_ == nullptr) {
      head_ = &node;
    } else {
      tail_->next = &node;
    }
    tail_ = &node;
  }

  void push_front(T& node) noexcept {
    node.next = head_;
    head_ = &node;
    if (tail_ == nullptr) tail_ = &node;
  }

  /// The oldest node, or null.
  T* pop_front() noexcept {
    Runnable* node = head_;
    if (node == nullptr) return nullptr;
    head_ = node->next;
    if (head_ == nullptr) tail_ = nullptr;
    node->next = nullptr;
    return static_cast<T*>(node);
  }

  /// Moves everything of `other` behind what is here.
  void append(Queue&& other) noexcept {
    if (other.empty()) return;
    if (tail_ == nullptr) {
      head_ = other.head_;
    } else {
      tail_->next = other.head_;
    }
    tail_ = other.tail_;
    other.forget();
  }

  /// Adopts a chain that is already linked through `next`, oldest first.
  void append_chain(Runnable* first) noexcept {
    while (first != nullptr) {
      Runnable* following = first->next;
      push_back(static_cast<T&>(*first));
      first = following;
    }
  }

  /// Unlinks `node` if it is here. Linear: for rare paths such as cancelling a waiting operation.
  bool remove(T& node) noexcept {
    Runnable* previous = nullptr;
    for (Runnable* at = head_; at != nullptr; previous = at, at = at->next) {
      if (at != &node) continue;
      (previous == nullptr ? head_ : previous->next) = at->next;
      if (tail_ == at) tail_ = previous;
      at->next = nullptr;
      return true;
    }
    return false;
  }

 private:
  friend struct Inspector;  // of tests/sim

  void forget() noexcept { head_ = tail_ = nullptr; }

  Runnable* head_ = nullptr;
  Runnable* tail_ = nullptr;
};

/// Base of nodes kept in a List. Destroying a linked node is a bug.
struct ListNode {
  ListNode* list_next = nullptr;
  ListNode* list_previous = nullptr;

  ListNode() = default;
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;
  ~ListNode() { EVLUA_DCHECK(!linked()); }

  bool linked() const noexcept { return list_next != nullptr; }
};

/// Doubly linked circular list with constant-time removal. One thread at a time.
template <class T>
class List {
 public:
  List() noexcept { root_.list_next = root_.list_previous = &root_; }
  List(const List&) = delete;
  List& operator=(const List&) = delete;
  ~List() {
    EVLUA_DCHECK(empty());
    root_.list_next = root_.list_previous = nullptr;
  }

  bool empty() const noexcept { return root_.list_next == &root_; }
  T* front() noexcept { return empty() ? nullptr : static_cast<T*>(root_.list_next); }

  void push_back(T& item) noexcept {
    ListNode& node = item;
    EVLUA_DCHECK(!node.linked());
    node.list_next = &root_;
    node.list_previous = root_.list_previous;
    root_.list_previous->list_next = &node;
    root_.list_previous = &node;
  }

  static void erase(T& item) noexcept {
    ListNode& node = item;
    EVLUA_DCHECK(node.linked());
    node.list_previous->list_next = node.list_next;
    node.list_next->list_previous = node.list_previous;
    node.list_next = node.list_previous = nullptr;
  }

  T* pop_front() noexcept {
    T* item = front();
    if (item != nullptr) erase(*item);
    return item;
  }

  /// Calls `visit(T&)` for each item; `visit` may erase the item it is given, no other.
  template <class Visit>
  void for_each(Visit visit) {
    for (ListNode* node = root_.list_next; node != &root_;) {
      ListNode* following = node->list_next;
      visit(static_cast<T&>(*node));
      node = following;
    }
  }

 private:
  ListNode root_;
};

}  // namespace evlua
